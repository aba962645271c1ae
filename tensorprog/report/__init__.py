"""What people look at: text, pictures."""

from tensorprog.report import shown  # registers how results look in a notebook
