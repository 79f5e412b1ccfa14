"""What a whole study found, from the rows of results/ alone: pure, and the same bytes every time.

A study is what kept to one protocol on one trunk and recipe, on two datasets or more.
"""
