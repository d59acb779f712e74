// Command procnanny-control is the reconciler and the API of procnanny.
// procnannyd starts it, with the protocol's socket as descriptor 3, and starts
// it again when it dies; programs do not notice. People do not start it.
//
// # Decisions
//
//   - It takes the flags of procnannyd unchanged, so that there is one list of
//     flags with one meaning.
//   - When its keeper dies without a farewell it becomes the next keeper at once,
//     and brings nothing down before: that would be time in which nobody reaps or
//     moves output, and to be killed is what everything of ours survives anyway.
//     A keeper that dies young again and again is raised more slowly.
//   - What is to take over is run first (--check-upgrade): that it answers shows
//     that it is whole and finds its libraries, what it answers, that it can read
//     what we have written.
//   - Its exit code tells the keeper why it ended: 0 all is stopped, ExitUpgrade
//     start what is installed now, ExitRefused there is nothing good to run and
//     never was; anything else is a death, and it is started again.
package main
