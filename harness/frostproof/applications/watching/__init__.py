"""`frostproof.watch`: frozen parameters in a training of one's own, looked at after each step."""
