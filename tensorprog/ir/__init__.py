"""The intermediate representation: instructions, the program graph, its well-formedness, JSON."""
