//! The programs in the kernel, by `BPF_PROG_TEST_RUN`.
