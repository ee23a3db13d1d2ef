"""`raymart demo`: a customer buys real tokens from two providers, and the books are checked afterwards."""
