//! The tables of one write transaction, as a change sees them.
//!
//! Opening a table costs about as much as changing a row of it, and so does a counter that is written
//! back each time: tables stay open from one step to the next, and counters are numbers in memory until
//! the change is done.

use std::collections::BTreeMap;

use redb::{Key, ReadableTable, Table, TableDefinition, Value, WriteTransaction};

use crate::index::{COUNTERS, EXPIRES, FILES, Fault, OBJECTS, OPEN, SUFFIXES, SUMS, VALUES};

/// The tables of a transaction. They must be dropped before it is committed.
pub(super) struct Tables<'t> {
    txn: &'t WriteTransaction,
    pub(super) objects: Lazy<'t, &'static [u8], &'static [u8]>,
    pub(super) suffixes: Lazy<'t, &'static [u8], ()>,
    pub(super) values: Lazy<'t, &'static [u8], &'static [u8]>,
    pub(super) files: Lazy<'t, &'static [u8; 16], &'static [u8]>,
    pub(super) open: Lazy<'t, &'static [u8; 16], u64>,
    pub(super) sums: Lazy<'t, (&'static [u8; 16], u64), &'static [u8]>,
    pub(super) expires: Lazy<'t, (u64, &'static [u8]), u64>,
    counters: Lazy<'t, &'static str, u64>,
    /// Counters that were looked at, and whether they are not as they are in the table.
    numbers: BTreeMap<String, (u64, bool)>,
}

impl<'t> Tables<'t> {
    pub(super) fn new(txn: &'t WriteTransaction) -> Self {
        Self {
            txn,
            objects: Lazy::new(txn, OBJECTS),
            suffixes: Lazy::new(txn, SUFFIXES),
            values: Lazy::new(txn, VALUES),
            files: Lazy::new(txn, FILES),
            open: Lazy::new(txn, OPEN),
            sums: Lazy::new(txn, SUMS),
            expires: Lazy::new(txn, EXPIRES),
            counters: Lazy::new(txn, COUNTERS),
            numbers: BTreeMap::new(),
        }
    }

    /// A counter; one that was never set is 0.
    pub(super) fn counter(&mut self, name: &str) -> Result<u64, Fault> {
        if let Some((number, _)) = self.numbers.get(name) {
            return Ok(*number);
        }
        let number = self.counters.get()?.get(name)?.map_or(0, |number| number.value());
        self.numbers.insert(name.to_owned(), (number, false));
        Ok(number)
    }

    pub(super) fn set_counter(&mut self, name: &str, number: u64) {
        match self.numbers.get_mut(name) {
            Some(held) => *held = (number, true),
            None => drop(self.numbers.insert(name.to_owned(), (number, true))),
        }
    }

    /// Writes the counters to their table, and closes all tables for who needs the transaction itself.
    pub(super) fn settle(&mut self) -> Result<&'t WriteTransaction, Fault> {
        for (name, (number, changed)) in std::mem::take(&mut self.numbers) {
            if changed {
                self.counters.get()?.insert(&*name, number)?;
            }
        }
        *self = Self::new(self.txn);
        Ok(self.txn)
    }
}

/// A table that is opened when it is first asked for.
pub(super) struct Lazy<'t, K: Key + 'static, V: Value + 'static> {
    txn: &'t WriteTransaction,
    of: TableDefinition<'static, K, V>,
    table: Option<Table<'t, K, V>>,
}

impl<'t, K: Key + 'static, V: Value + 'static> Lazy<'t, K, V> {
    const fn new(txn: &'t WriteTransaction, of: TableDefinition<'static, K, V>) -> Self {
        Self { txn, of, table: None }
    }

    pub(super) fn get(&mut self) -> Result<&mut Table<'t, K, V>, Fault> {
        match &mut self.table {
            Some(table) => Ok(table),
            closed => Ok(closed.insert(self.txn.open_table(self.of)?)),
        }
    }
}
