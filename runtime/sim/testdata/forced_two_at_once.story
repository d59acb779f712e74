# In a forced roll one that had crashed before did not count as away while it
# was replaced: the next one went with it.
seed 247
edit program=1 instances=3 command=1
die who=1
wait time=6
edit program=1 instances=3
die
