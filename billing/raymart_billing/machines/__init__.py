"""Lets the rules of machines' lives come to pass: absence and maintenance windows. No money."""
