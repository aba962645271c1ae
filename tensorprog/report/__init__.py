"""What people look at: text, pictures."""

from tensorprog.report import shown as shown  # registers how results look in a notebook
