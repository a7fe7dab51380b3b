"""Ways to freeze: A, B and their variants, and the others that people use."""
