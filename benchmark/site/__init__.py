"""results/ as a static website: the leaderboard, a page for each row, method and dataset.

Pages hold everything they show; a script of a few lines sorts and filters, and tables read the
same without it. The bytes depend on results/ and on this checkout alone.
"""
