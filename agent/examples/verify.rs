//! scratch
use aya::programs::Program;
fn main() {
    let data = std::fs::read("/tmp/ebpf-target/bpfel-unknown-none/release/programs").unwrap();
    let mut ebpf =
        aya::EbpfLoader::new().verifier_log_level(aya::VerifierLogLevel::STATS).load(&data).unwrap_or_else(|e| {
            eprintln!("{e:#?}");
            std::process::exit(1)
        });
    for (name, p) in ebpf.programs_mut() {
        let r = match p {
            Program::CgroupSkb(p) => p.load(),
            Program::CgroupSockAddr(p) => p.load(),
            Program::SchedClassifier(p) => p.load(),
            Program::Xdp(p) => p.load(),
            _ => panic!(),
        };
        match r {
            Ok(()) => {
                let i = p.info().unwrap();
                println!(
                    "{name} ok: insns {:?} jited {} verified {:?}",
                    i.size_translated(),
                    i.size_jitted(),
                    i.verified_instruction_count()
                )
            }
            Err(e) => {
                let s = format!("{e}");
                let l: Vec<&str> = s.lines().collect();
                println!("{name}: {}", l[..3.min(l.len())].join("\n"));
                println!("{}", l[l.len().saturating_sub(40)..].join("\n"))
            }
        }
    }
}
