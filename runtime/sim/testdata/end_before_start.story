# A stop was ordered before control heard of the start, and control died: the
# start and the pid were missing from history.
seed 6
edit program=1
mood slow=1
scale program=1 instances=1
edit program=1
kill-control
