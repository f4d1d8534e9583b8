//! `completions`: the scripts are what their shells take, and know the commands.

use std::process::Command;

use crate::cli_support::run;
use crate::support::process::{Place, text};
use crate::support::skipped;

/// What bash would offer behind these words, the last of which is not finished.
fn offered(place: &Place, words: &[&str]) -> Vec<String> {
    let ask = "source completions.bash && COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) && \
               _singularity singularity \"${@: -1}\" \"${@: -2:1}\" && printf '%s\\n' \"${COMPREPLY[@]}\"";
    let words = [&["-c", ask, "bash"], words].concat();
    let output = Command::new("bash").args(words).current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_commands_and_options() {
    // A configuration with problems is nothing to a shell.
    let place = Place::embedded("nonsense");
    place.write("completions.bash", &run(&place, &["completions", "bash"]).done().out);
    assert_eq!(offered(&place, &["singularity", "inst"]), ["instance"]);
    assert_eq!(offered(&place, &["singularity", "instance", "sh"]), ["show"]);
    assert_eq!(offered(&place, &["singularity", "job", "list", "--js"]), ["--json"]);
    assert_eq!(offered(&place, &["singularity", "start", "--role", "m"]), ["member"]);
    assert!(!offered(&place, &["singularity", ""]).iter().any(|word| word.contains("guardian")));
}

#[test]
fn other_shells_get_scripts_of_their_own() {
    let place = Place::embedded("");
    let zsh = run(&place, &["completions", "zsh"]).done().out;
    assert!(zsh.starts_with("#compdef singularity") && zsh.contains("'instance:Instances'"), "{zsh}");
    let fish = run(&place, &["completions", "fish"]).done().out;
    assert!(fish.contains("complete -c singularity") && !fish.contains("guardian"), "{fish}");
    for (shell, script) in [("zsh", zsh), ("fish", fish)] {
        place.write("script", &script);
        match Command::new(shell).args(["-n", "script"]).current_dir(place.path()).output() {
            Ok(output) => assert!(output.status.success(), "{}", text(&output.stderr)),
            Err(error) => skipped(&format!("{shell} is not here to read its script: {error}")),
        }
    }
    run(&place, &["completions", "powershell"]).refused(2, &["E0816", "allowed are bash, zsh, fish"]);
}
