//! Painters of bulk pictures on the GPU, each with a CPU twin.
