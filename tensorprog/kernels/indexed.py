class Printer:
    def __init__(self,*a): pass
