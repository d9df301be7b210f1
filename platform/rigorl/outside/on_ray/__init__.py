"""What Ray does for us on a cluster, a file for each kind of thing that is asked of it.

`order` says what a study sends there and `refusals` what must hold first, both without Ray;
`probe` is what looks at a cluster from the inside, `jobs` speaks with it from the outside, and
`tail` reads what a job prints.
"""
