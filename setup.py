"""The packages: what lies in tensorprog/, and the gallery, which lies beside it to be read and copied."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tensorprog", "tensorprog.*"]), "tensorprog.programs"],
    package_dir={"tensorprog": "tensorprog", "tensorprog.programs": "programs"},
    package_data={"": ["*.pyi", "py.typed"]},
)
