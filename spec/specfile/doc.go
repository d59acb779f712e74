// Package specfile turns CUE, YAML and JSON files into a validated spec.Spec,
// with a position in every error. It owns schema.cue, the one schema that all
// three languages and every override are judged by.
//
// An evaluation is a dialogue of two steps, because only the caller may ask the
// host who "games" is: [Start] evaluates the files and says which names they
// use, [Evaluation.Finish] takes what the host knows of them and gives the
// verdict. [Serve] speaks the dialogue over a pair of pipes.
//
// Nothing here opens a file: the files come as bytes in spec.Source.
//
// # Decisions
//
//   - Packages are built by hand from the map of files instead of with CUE's
//     loader. The loader wants a file system, an environment and a registry
//     client; the evaluator has none of them, and without the loader it is
//     smaller and starts faster. Refused: modules from a registry, @embed, @tag.
//   - The good path and the bad path are separate. What is wrong is found and
//     said by CUE alone: only when a program fails its unification with the schema
//     is its value walked a second time, next to the schema, to find everything
//     that is wrong, because CUE itself reports nothing about unknown fields
//     beside a conflict.
//   - Most programs are accepted without that unification, which was four fifths
//     of an evaluation: the text of schema.cue is also made into rules about plain
//     data. A rule may refuse what CUE would allow, never the other way round, and
//     what is refused, or would give a warning, goes the long way. So there is one
//     schema, and no second list of keys; a test fails when schema.cue uses more of
//     CUE than the rules understand, and others compare both ways on mutants.
//     Refused: a generated validator, which would be a second schema to review.
//   - Files that are data through and through (which the syntax tells) are not
//     evaluated by CUE at all: in them no program depends on another. If some of
//     the programs must go the long way, CUE sees those alone. Files with anything
//     more in them (a policy, a definition, a reference) are evaluated as a whole,
//     and the rules take the place of the schema only.
//   - A program's rules for uid and gid are asked without unifying the program
//     once more, if no syntax in the files can make anything else depend on them.
//   - Nothing is remembered from one evaluation to the next: it would have to
//     hold for references, policies and users of the host alike.
//   - Errors are written from the schema's @expect attributes, not from CUE's
//     text, so that they say what is expected in words people use.
//   - uid and gid are filled into every program before it is judged, also where
//     the files name no user. So a rule such as uid: !=0 holds for what a
//     program will run as, and not only for what somebody wrote.
//   - An override is judged by editing the syntax trees where CUE says that the
//     field's values come from (a literal goes, a constraint stays) and by
//     evaluating the whole again. A literal that other programs share becomes a
//     default, so that they keep it; one in a rule for many ([string]: ...) is a
//     constraint. Refused: judging the value alone, which would miss rules that
//     relate two fields.
//   - When the files refuse several overrides together, the newest that does not
//     go with those before it is to blame. It is looked for by halving, with few
//     evaluations, because CPU time is limited.
package specfile
