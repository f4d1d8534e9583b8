//! The rows of Elixir's suites.

use super::{Row, adapted, not_carried, same};

const NO_MODULES: &str = "There are no callback modules; a function makes the specification.";
const BUILDER: &str = "Builders with types: most of what is invalid does not compile.";
const PER_SYSTEM: &str = "Names belong to a system: `ChildSpec::registered`, `System::lookup`.";
const NO_ARGS: &str = "Start functions own their arguments, so those that all children share are captured once.";
const NO_CHOICE: &str = "There it answers the order to stop so. Here an actor cannot choose its reason once it was asked to stop (S22), so it leaves just before.";
const OLD_FORM: &str = "An old form of specifications that never existed here.";

pub const SUPERVISOR: &[Row] = &[
    adapted("E01", "child_spec/1", "a child specification has the defaults", NO_MODULES),
    adapted("E02", "child_spec/2", "each of its attributes can be replaced", NO_MODULES),
    adapted(
        "E03",
        "init/2",
        "defaults are 3 restarts in 5 s; a strategy must be given",
        "A missing strategy does not compile.",
    ),
    not_carried("E04", "init/2 with mixed specs", "old and new forms of specifications can be mixed", OLD_FORM),
    adapted("E05", "start_link/2 with via", "a supervisor is reached through a registry", PER_SYSTEM),
    not_carried(
        "E06",
        "start_link/2 with a global name",
        "a name in the cluster",
        "Instances share a database, not a name space.",
    ),
    adapted("E07", "start_link/2 with a local name", "a supervisor is reached by its name", PER_SYSTEM),
    adapted(
        "E08",
        "start_link/2 with a named child",
        "a named child answers, and again under the same name after its restart; bad names are refused",
        "Names are any text; one that is taken is refused.",
    ),
    not_carried("E09", "start_link/2 with mixed specs", "old and new forms can be mixed", OLD_FORM),
    adapted("E10", "start_link/3", "a supervisor is started from what its init makes", NO_MODULES),
    not_carried("E11", "start_child/2 with old child spec", "old forms are accepted", OLD_FORM),
    adapted(
        "E12",
        "start_child/2 with a map",
        "a child is added to a running supervisor",
        "The specification is built, not a map.",
    ),
    adapted(
        "E13",
        "start_child/2 with module and argument",
        "a child is added by its type and argument",
        "`ChildSpec::actor` names type, address and arguments.",
    ),
    adapted("E14", "start_child/2 with invalid specs", "each is rejected with its reason", BUILDER),
    same("E15", "child shutdown of 0 and 1", "are legal and work"),
    same(
        "E16",
        "child life cycle",
        "start, which, count, delete refused while running, terminate, restart, terminate, delete",
    ),
];

pub const DYNAMIC: &[Row] = &[
    same("D01", "under a supervisor", "a dynamic supervisor can be a child of a supervisor"),
    adapted(
        "D02",
        "several under one supervisor",
        "several named ones run side by side; the same id twice is refused",
        "A repeated id is found before anything starts.",
    ),
    adapted(
        "D03",
        "child_spec/1",
        "its own child specification has the defaults, and they can be replaced",
        NO_MODULES,
    ),
    adapted(
        "D04",
        "init/1 defaults",
        "one_for_one, 3 restarts in 5 s, no extra arguments",
        "`max_children` has no default: a limit must be given.",
    ),
    adapted(
        "D05",
        "init/1 with invalid settings",
        "invalid intensity, period and max_children are rejected",
        "Strategy, extra arguments and auto_shutdown are not settings here, and it has no init that could ignore.",
    ),
    adapted("D06", "start_link/3", "it is linked, has its name, and stops", PER_SYSTEM),
    not_carried(
        "D07",
        "start_link/3 with spawn options",
        "options of the process are passed on",
        "Actors have no such options.",
    ),
    not_carried("D08", "initial call", "equals a regular supervisor's", "There are no initial calls."),
    adapted(
        "D09",
        "code_change/3 with invalid settings",
        "is refused, and nothing changes",
        "`DynamicHandle::update` instead of a release handler; there is no ignore.",
    ),
    same(
        "D10",
        "code_change/3 with max_children",
        "a limit below the present count keeps the children and refuses new ones",
    ),
    not_carried("D11", "start_child/2 with old spec", "old forms are accepted", OLD_FORM),
    adapted(
        "D12",
        "start_child/2 with a map",
        "a child is started from its specification",
        "The specification is built, not a map.",
    ),
    adapted(
        "D13",
        "start_child/2 with a module",
        "a child is started by its type",
        "`ChildSpec::actor` names type, address and arguments.",
    ),
    adapted("D14", "extra arguments", "come before those of the child", NO_ARGS),
    adapted("D15", "start_child/2 with invalid specs", "are rejected before they reach the supervisor", BUILDER),
    adapted(
        "D16",
        "start_child/2 with different returns",
        "ok with and without info, ignore and errors reach the caller as they are",
        "Ignore is an error value. A start cannot return junk.",
    ),
    adapted(
        "D17",
        "start_child/2 with throw, error, exit",
        "become error values; the supervisor survives",
        "A panic is the only way to throw; in `init` and in the start function.",
    ),
    same("D18", "max_children 0", "refuses every child"),
    same("D19", "temporary", "children are never restarted"),
    same("D20", "transient", "children are restarted except after normal, shutdown and shutdown with a note"),
    same("D21", "permanent", "children are restarted for every reason"),
    adapted(
        "D22",
        "restart with different returns",
        "a restart that returns ok (with info), ignore (forgotten), or fails (restarting); others are not affected, counts are right",
        "A failing and a panicking start stand for error and junk.",
    ),
    same("D23", "restarting children occupy places", "one that cannot be restarted still counts for max_children"),
    same("D24", "restarted children occupy places", "one that was restarted still counts for max_children"),
    adapted("D25", "extra arguments at restarts", "are used again", NO_ARGS),
    same("D26", "retry", "succeeds at a later attempt"),
    same("D27", "max_restarts", "one restart too many ends the supervisor with shutdown"),
    same("D28", "max_restarts by retries", "attempts of one child count too and end it with shutdown"),
    same("D29", "shutdown of 0 and 1", "are legal"),
    adapted(
        "D30",
        "negative shutdown",
        "is rejected",
        "A duration cannot be negative; what is asserted is that a way to stop is kept as given.",
    ),
    same("D31", "end with brutal_kill", "children are killed"),
    same("D32", "end with infinity", "children end with shutdown, however long they take"),
    adapted(
        "D33",
        "end with infinity and another clean reason",
        "a child that leaves by itself with a note keeps it",
        NO_CHOICE,
    ),
    same("D34", "end with a time", "children end with shutdown within it"),
    adapted(
        "D35",
        "end with a time and another clean reason",
        "a child that leaves by itself with a note keeps it",
        NO_CHOICE,
    ),
    same("D36", "end with a time that is over", "that child is killed, others end with shutdown"),
    adapted(
        "D37",
        "end with permanent children that leave with normal",
        "the supervisor still ends with shutdown",
        NO_CHOICE,
    ),
    same("D38", "end with all kinds of children", "each ends in its own way, side by side"),
    same("D39", "terminate_child/2 with brutal_kill", "the child is killed, the second time it is not_found"),
    same("D40", "terminate_child/2 with a time", "the child ends with shutdown, the second time it is not_found"),
    same(
        "D41",
        "terminate_child/2 of a restarting child",
        "works by its old reference, the second time it is not_found",
    ),
];

pub const PARTITION: &[Row] = &[
    adapted("P01", "child_spec/1 with an atom", "its own child id is its name", "The id is given; a name is separate."),
    adapted(
        "P02",
        "child_spec/1 with via",
        "its own child id is its name in the registry",
        "The id is given; a name is separate.",
    ),
    same("P03", "100 keys", "are spread over the partitions, and every one finds its child"),
    adapted("P04", "via name", "it is reached through a registry", PER_SYSTEM),
    adapted(
        "P05",
        "with_arguments and keys",
        "each partition is made for its number; integer keys go by their remainder without sign, also the smallest one",
        "One function makes every partition. Integers are 64 bits wide; others are hashed by Rust's hasher.",
    ),
    adapted("P06", "option name", "a missing name is an error", "The id is a parameter; an invalid one is rejected."),
    adapted(
        "P07",
        "option child_spec",
        "a missing or invalid child_spec is an error",
        "It is a parameter; what it makes is checked.",
    ),
    adapted("P08", "option partitions", "must be a positive integer", "Too many are refused too."),
    adapted(
        "P09",
        "option with_arguments",
        "must be a function of arguments and partition",
        "It is typed; what is asserted is that it is called with each number.",
    ),
    adapted(
        "P10",
        "option auto_shutdown",
        "must be never",
        "There is no such setting; significant children are refused.",
    ),
    adapted("P11", "stop/1", "is synchronous", "Through the handle's supervisor."),
    adapted("P12", "stop/1 via", "the same, found by its name", PER_SYSTEM),
    adapted(
        "P13",
        "which_children/1 with an unknown name",
        "is an error",
        "A lookup that finds nothing is `None`; a handle of nobody says `NoProc`.",
    ),
    adapted("P14", "count_children/1 with an unknown name", "is an error", "As for P13."),
    same("P15", "resize!/2", "to every size keeps specs, and keys go to the partitions that are left"),
    same("P16", "resize!/2 to zero", "lookups fail; resizing back works"),
    same("P17", "resize!/2 above the first size", "is refused"),
    same("P18", "which_children/1", "lists the partitions by number"),
    same("P19", "count_children/1 of workers", "counts them"),
    same("P20", "count_children/1 of supervisors", "counts them"),
    adapted("P21", "partitions/1 with an unknown name", "is an error", "A handle of nobody has no partitions."),
    adapted("P22", "partitions/1 via", "tells how many there are, found by its name", PER_SYSTEM),
];
