# A run was over when its instance was scaled away, which came back and was down.
# When the keeper, which had not heard that the end is known, told it again, it
# was written down twice.
seed 1795679086199
mood die=20
edit instances=1
edit program=1 instances=4 when=2
wait time=6
mood leave=12 die=8 slow=1
down index=2
scale instances=8
wait time=6
reboot
wait time=7
scale program=1
down program=1
edit program=1 instances=4
kill-keeper
