"""What people look at: text, pictures."""

from tensorprog.report import shown as shown
