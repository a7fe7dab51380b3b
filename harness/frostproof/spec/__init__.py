"""What a case is: a network, a frozen mask, parameter groups and a program, and the optimizer under test, as plain data."""
