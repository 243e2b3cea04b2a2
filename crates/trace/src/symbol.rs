//! Names of addresses: the program's own from its ELF file, others by file and offset.

use std::path::Path;

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};

use crate::capture::{Mapping, Process};

/// Symbols of one program.
#[derive(Debug, Clone, Default)]
pub struct Symbols {
    /// Name of the file, without folders.
    file: String,
    /// Address, size, name; sorted.
    list: Vec<(u64, u64, String)>,
    /// Address of the file's first byte: 0 for one that may lie anywhere.
    base: u64,
}

impl Symbols {
    /// Reads the ELF file `bytes`, which is called `file` in the guest too; `None` when it is no ELF
    /// file.
    #[must_use]
    pub fn read(file: &str, bytes: &[u8]) -> Option<Self> {
        let elf = object::File::parse(bytes).ok()?;
        let mut list: Vec<(u64, u64, String)> = elf
            .symbols()
            .chain(elf.dynamic_symbols())
            .filter(|symbol| symbol.address() != 0 && symbol.size() > 0)
            .filter_map(|symbol| {
                Some((symbol.address(), symbol.size(), symbol.name().ok()?.to_owned()))
            })
            .collect();
        list.sort();
        list.dedup();
        let first = elf.segments().find(|segment| segment.file_range().0 == 0);
        let base = first.map_or(0, |segment| segment.address());
        Some(Self { file: file.to_owned(), list, base })
    }

    /// The symbol `inside` bytes after the place where the file's first byte is mapped.
    fn name(&self, path: &str, inside: u64) -> Option<String> {
        if Path::new(path).file_name()? != Path::new(&self.file).file_name()? {
            return None;
        }
        let address = self.base.checked_add(inside)?;
        let next = self.list.partition_point(|(start, _, _)| *start <= address);
        let (start, size, name) = self.list.get(next.checked_sub(1)?)?;
        (address - start < *size).then(|| name.clone())
    }
}

/// What lies at `address` in `process`: a symbol, a file with an offset, or the kind of memory.
#[must_use]
pub fn describe(process: &Process, symbols: &[Symbols], address: u64) -> String {
    let found = process.maps.iter().position(|map| map.start <= address && address < map.end);
    let Some((index, map)) = found.and_then(|index| Some((index, process.maps.get(index)?))) else {
        return format!("{address:#x}");
    };
    let before = index.checked_sub(1).and_then(|before| process.maps.get(before));
    // Zeroed data of a program is memory without a file right behind the file's own.
    let file = [Some(map), before.filter(|before| map.path.is_empty() && before.end == map.start)]
        .into_iter()
        .flatten()
        .find(|map| map.path.starts_with('/'));
    if let Some(name) = file.and_then(|file| symbol(process, symbols, file, address)) {
        return name;
    }
    let name = Path::new(&map.path).file_name().map(|name| name.to_string_lossy().into_owned());
    match name {
        Some(file) if map.path.starts_with('/') => {
            format!("{file}+{:#x}", address - map.start + map.offset)
        }
        _ if map.path == "[heap]" => "the heap".to_owned(),
        _ if map.path.starts_with("[stack") => "the stack".to_owned(),
        _ if map.path.is_empty() => "allocated memory".to_owned(),
        _ => map.path.clone(),
    }
}

fn symbol(process: &Process, symbols: &[Symbols], file: &Mapping, address: u64) -> Option<String> {
    let first = process.maps.iter().find(|map| map.path == file.path && map.offset == 0)?;
    let inside = address.checked_sub(first.start)?;
    symbols.iter().find_map(|symbols| symbols.name(&file.path, inside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{Role, parse_maps};

    #[test]
    fn addresses_get_the_nearest_name_there_is() {
        let process = Process {
            pid: 1,
            role: Role::Program,
            command: String::new(),
            threads: Vec::new(),
            locked_kib: 0,
            swapped_kib: 0,
            files: Default::default(),
            maps: parse_maps(
                "5000-6000 r-xp 0 0:1 1 /srv/client\n6000-7000 rw-p 1000 0:1 1 /srv/client\n7000-8000 rw-p 0 0:0 0 \n\
                 9000-a000 r-xp 2000 0:1 1 /lib/libc.so.6\nb000-c000 rw-p 0 0:0 0 [heap]\n",
            ),
        };
        let symbols = [Symbols {
            file: "client".to_owned(),
            list: vec![(0x100, 0x80, "process".to_owned()), (0x2010, 8, "mutex".to_owned())],
            base: 0,
        }];
        let name = |address| describe(&process, &symbols, address);
        assert_eq!(name(0x5110), "process");
        assert_eq!(name(0x7010), "mutex");
        assert_eq!(name(0x5180), "client+0x180");
        assert_eq!(name(0x9004), "libc.so.6+0x2004");
        assert_eq!(name(0xb000), "the heap");
        assert_eq!(name(0xd000), "0xd000");
        // No other file's addresses are named after the program's symbols.
        assert!(Symbols::read("x", b"no ELF").is_none());
    }
}
