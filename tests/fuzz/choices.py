"""Choices of a random case, kept so that a case can be run again and made smaller."""

import random


class Choices:
    """Numbers below a bound: random ones, or those of a list and then 0, which stands for what is simplest.

    >>> Choices(given=[5, 1]).among("abc")
    'c'
    """

    def __init__(self, seed=None, given=None):
        self.random, self.given, self.taken = random.Random(seed), given, []

    def below(self, n):
        at = len(self.taken)
        value = self.random.randrange(n) if self.given is None else (self.given[at] if at < len(self.given) else 0) % n
        self.taken.append(value)
        return value

    def among(self, options):
        return options[self.below(len(options))]

    def rarely(self, one_in=4):
        return self.below(one_in) == one_in - 1


def smaller(given, fails, tries=60):
    """A shorter list of choices, with more zeros, for which the case still fails."""
    best = list(given)
    while len(best) > 1 and tries > 0 and fails(best[: len(best) // 2]):
        best, tries = best[: len(best) // 2], tries - 1
    for i in reversed(range(len(best))):
        for candidate in (best[:i] + best[i + 1 :], [*best[:i], 0, *best[i + 1 :]]):
            if tries > 0 and candidate != best:
                tries -= 1
                if fails(candidate):
                    best = candidate
                    break
    return best
