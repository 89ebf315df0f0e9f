//! The program: the window without a verb, the command line with one.

fn main() -> std::process::ExitCode {
    tokenscope_app::cli::main()
}
