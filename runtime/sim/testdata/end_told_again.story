# Control died between writing down that an instance is gone and acknowledging
# its end: the next one wrote the end down again.
seed 19
edit
scale instances=2
edit
kill-control point=2
