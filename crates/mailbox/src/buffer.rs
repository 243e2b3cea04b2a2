//! Memory that begins at a multiple of a block, as reads and writes past the page cache need it.

/// Block of every transfer: no smaller one is written to a persistent-memory device at once.
pub(crate) const BLOCK: usize = 4096;

/// A piece of memory that begins at a multiple of [`BLOCK`].
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// `blocks` blocks of zeros.
    pub(crate) fn new(blocks: usize) -> Self {
        let length = blocks * BLOCK;
        let bytes = vec![0; length + BLOCK];
        // `align_offset` may refuse; then the system refuses the transfer, and says so.
        let start = Some(bytes.as_ptr().align_offset(BLOCK)).filter(|at| *at < BLOCK).unwrap_or(0);
        Self { bytes, start, length }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..self.start + self.length).unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_where_a_block_does() {
        for blocks in 1..20 {
            let buffer = Buffer::new(blocks);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK), 0);
            assert_eq!(buffer.as_slice().len(), blocks * BLOCK);
        }
    }
}
