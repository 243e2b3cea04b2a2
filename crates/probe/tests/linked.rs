//! The built program as a file: it can load libraries, needs nothing beyond the C library, and no
//! newer one than the guest has.

// A failed call here is a failed test.
#![allow(clippy::unwrap_used)]

use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _};

/// glibc of Debian 13, the guest's.
const GUEST: (u32, u32) = (2, 41);

/// Version names such as `GLIBC_2.34` that the program asks of its libraries.
fn versions(data: &[u8]) -> Vec<String> {
    let elf = ElfFile64::<Endianness>::parse(data).unwrap();
    let (header, endian) = (elf.elf_header(), elf.endian());
    let sections = header.sections(endian, data).unwrap();
    let mut found = Vec::new();
    let (mut needs, strings) = sections.gnu_verneed(endian, data).unwrap().unwrap();
    let strings = sections.strings(endian, data, strings).unwrap();
    while let Some((_, mut names)) = needs.next().unwrap() {
        while let Some(name) = names.next().unwrap() {
            let name = name.name(endian, strings).unwrap();
            found.push(String::from_utf8(name.to_vec()).unwrap());
        }
    }
    found
}

#[test]
fn the_program_is_dynamic_and_runs_with_the_guest_s_c_library() {
    let data = std::fs::read(env!("CARGO_BIN_EXE_archibald-probe")).unwrap();
    let elf = ElfFile64::<Endianness>::parse(&*data).unwrap();
    let endian = elf.endian();
    assert!(
        elf.elf_program_headers().iter().any(|segment| segment.p_type(endian) == PT_INTERP),
        "a static program cannot load libjack; test the probe with crates/probe/cargo test"
    );
    let mut libraries: Vec<_> = elf
        .imports()
        .unwrap()
        .iter()
        .map(|import| String::from_utf8_lossy(import.library()).into_owned())
        .filter(|library| !library.is_empty())
        .collect();
    libraries.sort();
    libraries.dedup();
    for library in &libraries {
        let known = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
        assert!(known.contains(&library.as_str()), "{libraries:?}");
    }
    let versions = versions(&data);
    let glibc: Vec<&str> = versions.iter().filter_map(|v| v.strip_prefix("GLIBC_")).collect();
    assert!(!glibc.is_empty(), "{versions:?}");
    for version in glibc {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap());
        let asked = (parts.next().unwrap(), parts.next().unwrap());
        assert!(asked <= GUEST, "GLIBC_{version} is newer than the guest's {GUEST:?}");
    }
}
