"""Cases as plain data: a network, a mask, parameter groups, a program; and the optimizer tested."""
