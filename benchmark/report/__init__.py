"""A study as one HTML file, and its charts as image files.

Comes in: a study and its tables. Goes out: ``report/index.html`` without script or network, and
figures on request.
May import ``tables``, ``statistics`` and ``study``; needs no torch. ``page`` is where it begins.
"""
