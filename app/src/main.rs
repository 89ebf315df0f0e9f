//! The program: the window without a verb, the command line with one.

/// Counts while a leaderboard measures how much memory a pass takes.
#[global_allocator]
static HEAP: tokenscope_app::memory::Counting = tokenscope_app::memory::Counting;

fn main() -> std::process::ExitCode {
    tokenscope_app::cli::main()
}
