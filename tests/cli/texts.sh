# Help, manual page and completions: all come from options.def and name every option.

options_of_source() { sed -n 's/^SP_OPTION([a-z_]*, [A-Z]*, "\([a-z-]*\)".*/\1/p' "$here/../../src/cli/options.def"; }

case_help_names_every_option() {
    local command option
    for command in generate render bench eval info inspect completions man; do
        succeed specular $command --help
        [ ! -s succeed.err ] || fail "help speaks on standard error"
        cat succeed.out >> all
        [ "$(awk 'length > 100' succeed.out)" = "" ] || fail "help of $command is wider than 100 columns"
        ! grep -q ' $' succeed.out || fail "help of $command has blanks at line ends"
    done
    [ "$(options_of_source | wc -l)" -gt 30 ] || fail "options.def was not read"
    for option in $(options_of_source); do
        grep -qE -- "--$option\b" all || fail "no help names --$option"
    done
    specular --help | grep -q 'generate'
    specular -h > short
    specular --help | cmp - short
}

case_version() { [ "$(specular --version)" = "specular 0.1.0" ]; }

case_manual_page() {
    local option
    specular man > specular.1
    for option in $(options_of_source); do
        grep -qF -- "\\-\\-${option//-/\\-}" specular.1 || fail "the manual page does not name --$option"
    done
    ! grep -qE "^[.'](SH|SS|TP|TH|br|nf|fi)?[^A-Za-z]*\$" <(grep -vE '^\.(SH|SS|TP|TH|br|nf|fi)\b' specular.1) ||
        fail "a line starts with a request by accident"
    if command -v groff > /dev/null; then
        groff -man -Tutf8 -ww -z specular.1 2> warnings
        [ ! -s warnings ] || fail "groff: $(cat warnings)"
    fi
}

# What bash offers for a command line.
offer() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    COMPREPLY=()
    _specular
    echo "${COMPREPLY[*]}"
}

case_bash_completions() {
    specular completions bash > completions
    source ./completions
    [ "$(offer specular gen)" = generate ] || fail "$(offer specular gen)"
    [ "$(offer specular generate --draft-)" = --draft-init ]
    [ "$(offer specular generate --dtype '')" = "auto f32 bf16" ] || fail "$(offer specular generate --dtype '')"
    [ "$(offer specular render --map)" = "" ]
    [[ " $(offer specular generate --method '') " == *" pathwise "* ]]
    touch prompts.txt
    [ "$(offer specular render -f prom)" = prompts.txt ]
}

case_other_completions() {
    specular completions zsh > z
    grep -q -- '--draft-init=' z
    if command -v zsh > /dev/null; then zsh -n z; fi
    specular completions fish > f
    grep -q -- '-l draft-init' f
    if command -v fish > /dev/null; then fish -n f; fi
}
