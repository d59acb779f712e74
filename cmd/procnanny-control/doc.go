// Command procnanny-control is the reconciler and the API of procnanny.
// procnannyd starts it, with the protocol's socket as descriptor 3, and starts
// it again when it dies; programs do not notice. People do not start it.
//
// # Decisions
//
//   - It takes the flags of procnannyd unchanged, so that there is one list of
//     flags with one meaning.
//   - Its exit code tells the keeper why it ended: 0 all is stopped, ExitUpgrade
//     start what is installed now, ExitRefused there is nothing good to run and
//     never was; anything else is a death, and it is started again.
package main
