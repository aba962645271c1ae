"""The kinds of cases that the fuzzer tries: from choices to a call of the package."""

from tests.fuzz import arguments, arrays, commands, files, language

KINDS = {
    "program files": files.case,
    "command lines": commands.case,
    "arrays": arrays.case,
    "arguments": arguments.case,
    "networks": language.network_case,
    "programs": language.program_case,
}
