"""Where jobs run: workers on this machine, or on the machines of a Ray cluster.

Comes in: a picklable function and its argument. Goes out: a future of its result, or the news
that its worker was lost.
Imports nothing of the runner. Only ``ray_cluster`` knows Ray.
"""
