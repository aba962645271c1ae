"""The names of the studies and the options of their command, which are read before the engine is imported."""

STUDIES = ("conditioning", "convergence", "critical", "drift", "ntktrain", "phase", "sensitivity", "ucr", "variance")
STUDY_OPTIONS = {  # an argument of the study's function, as text
    "by": "the hyperparameter to find (critical)",
    "over": "depth or lengths (phase, critical)",
    "drive": "⟨x,x⟩ of an input that enters at every layer or time (phase, critical)",
    "widths": "comma-separated widths",
    "seeds": "networks per width",
    "depths": "comma-separated depths (conditioning)",
    "correlation": "of the inputs (conditioning)",
    "samples": "of the training set (conditioning)",
    "error": "standard error to reach (variance)",
    "trained": "w or W (variance, conditioning)",
    "times": "comma-separated steps (drift)",
    "steps": "SGD steps (ntktrain)",
    "lr": "learning rate (drift)",
    "length": "of random sequences (sensitivity)",
    "pairs": "of random inputs (sensitivity)",
    "sets": "comma-separated names of data sets (ucr)",
    "folder": "where wheels or files of data sets lie (ucr)",
    "seed": "of random data, and of folds",
}
