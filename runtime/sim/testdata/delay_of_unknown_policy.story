# An order to start was lost with control and keeper. The next control did not
# know the policy yet, and took the delay from the defaults, jitter and all.
seed 1795679083140
mood fail=16 leave=14 die=30 slow=3
wait time=1
wait time=6
wait time=2
wait time=10
wait time=5
wait time=9
wait
reboot gap=3
kill-control
edit instances=2 when=1
wait time=2
wait time=10
wait time=8
edit program=1 instances=5 command=2
die left=1
wait time=3
kill-control
edit program=1 instances=5 command=2 jitter=1 min_uptime=2 nice=1
wait time=6
kill-both gap=5
wait time=11
wait time=9
wait
kill-both gap=1
wait
kill-control point=2
wait time=4
