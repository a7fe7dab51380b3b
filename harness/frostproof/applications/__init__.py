"""What is built on top: the claims of the forum thread, the atlas of ways to freeze, and the cost of freezing."""
