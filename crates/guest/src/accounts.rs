//! The machine's accounts as the four files of passwd(5), shadow(5), group(5) and gshadow(5).
//!
//! A pure function from their old text to their new one; reading, locking and writing them is
//! `setup`'s business. Edited here rather than by useradd, usermod and chpasswd because those are six
//! processes a user, and each costs a tenth of a second on an emulated CPU at every boot.

use archibald_machine::SettingsUser;

/// Written into the comment field of every account made here, so that one whose user is no longer in
/// the settings can be told from one that a person made inside the machine.
const MARK: &str = "archibald";
/// Ids of people, as in login.defs.
const PEOPLE: std::ops::Range<u32> = 1000..60000;
/// Ids for groups that no package brings.
const SYSTEM: std::ops::Range<u32> = 200..1000;

/// The text of the four files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/shadow`.
    pub shadow: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/gshadow`.
    pub gshadow: String,
}

/// Where a user lives and with which numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// One file as lines of fields between colons.
struct Table(Vec<Vec<String>>);

impl Table {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty());
        Self(lines.map(|line| line.split(':').map(str::to_owned).collect()).collect())
    }

    fn text(&self) -> String {
        self.0.iter().map(|fields| fields.join(":") + "\n").collect()
    }

    fn get(&self, name: &str) -> Option<&Vec<String>> {
        self.0.iter().find(|fields| fields.first().is_some_and(|first| first == name))
    }

    /// The line of `name`, with at least as many fields as `new`; appended if there is none.
    fn entry(&mut self, name: &str, new: &[&str]) -> &mut Vec<String> {
        let position = self.0.iter().position(|f| f.first().is_some_and(|first| first == name));
        let position = position.unwrap_or_else(|| {
            self.0.push(new.iter().map(|field| (*field).to_owned()).collect());
            self.0.len() - 1
        });
        let fields = &mut self.0[position];
        while fields.len() < new.len() {
            fields.push(String::new());
        }
        fields
    }

    /// Numbers in the third field.
    fn ids(&self) -> Vec<u32> {
        self.0.iter().filter_map(|fields| fields.get(2)?.parse().ok()).collect()
    }
}

impl Accounts {
    /// Makes `users` exist with their groups and passwords, and says where each lives. Accounts made
    /// here for somebody who is no longer among them can no longer log in; their files stay.
    ///
    /// `today` is the day since 1970 that shadow(5) notes for a changed password.
    pub fn apply(&mut self, users: &[SettingsUser], today: u64) -> Vec<Account> {
        let mut passwd = Table::parse(&self.passwd);
        let mut shadow = Table::parse(&self.shadow);
        let mut group = Table::parse(&self.group);
        let mut gshadow = Table::parse(&self.gshadow);

        let mut accounts = Vec::new();
        for user in users {
            let account = account_of(&mut passwd, &mut group, &mut gshadow, &user.name);
            set_password(&mut shadow, &user.name, user.password_hash.as_deref(), today);
            for name in &user.groups {
                if group.get(name).is_none() {
                    let id = free(SYSTEM.rev(), &[&group]).to_string();
                    group.entry(name, &[name, "x", &id, ""]);
                }
                gshadow.entry(name, &[name, "!", "", ""]);
            }
            for table in [&mut group, &mut gshadow] {
                set_membership(table, &user.name, &user.groups);
            }
            accounts.push(account);
        }
        let gone = |fields: &&Vec<String>| {
            fields.get(4).is_some_and(|comment| comment == MARK)
                && !users.iter().any(|user| Some(&user.name) == fields.first())
        };
        for name in passwd.0.iter().filter(gone).filter_map(|fields| fields.first()) {
            set_password(&mut shadow, name, None, today);
            for table in [&mut group, &mut gshadow] {
                set_membership(table, name, &[]);
            }
        }
        *self = Self {
            passwd: passwd.text(),
            shadow: shadow.text(),
            group: group.text(),
            gshadow: gshadow.text(),
        };
        accounts
    }
}

fn account_of(passwd: &mut Table, group: &mut Table, gshadow: &mut Table, name: &str) -> Account {
    if passwd.get(name).is_none() {
        // The group of the same name gets the same number wherever that is free in both files.
        let uid = free(PEOPLE, &[passwd, group]);
        let id = uid.to_string();
        let gid = group.entry(name, &[name, "x", &id, ""]).get(2).cloned().unwrap_or(id.clone());
        gshadow.entry(name, &[name, "!", "", ""]);
        let home = format!("/home/{name}");
        passwd.entry(name, &[name, "x", &id, &gid, MARK, &home, "/bin/bash"]);
    }
    let field = |at: usize| passwd.get(name).and_then(|f| f.get(at)).cloned().unwrap_or_default();
    let number = |at: usize| field(at).parse().unwrap_or(PEOPLE.start);
    Account { name: name.to_owned(), uid: number(2), gid: number(3), home: field(5) }
}

/// "*" can never be a password's hash, and unlike "!" it does not stop a login by key.
fn set_password(shadow: &mut Table, name: &str, hash: Option<&str>, today: u64) {
    let today = today.to_string();
    let fields = shadow.entry(name, &[name, "*", &today, "0", "99999", "7", "", "", ""]);
    let hash = hash.unwrap_or("*");
    if let Some(old) = fields.get_mut(1).filter(|old| *old != hash) {
        hash.clone_into(old);
        if let Some(day) = fields.get_mut(2) {
            *day = today;
        }
    }
}

/// Members are the last field of both group files. Membership is what the settings say, no more:
/// somebody taken out of `sudo` there is out of it after the next boot.
fn set_membership(table: &mut Table, user: &str, groups: &[String]) {
    for fields in &mut table.0 {
        let belongs = fields.first().is_some_and(|group| groups.contains(group));
        let Some(members) = fields.get_mut(3) else { continue };
        let mut names: Vec<&str> =
            members.split(',').filter(|name| !name.is_empty() && *name != user).collect();
        if belongs {
            names.push(user);
        }
        let names = names.join(",");
        // A line whose members only change their order is left as it is.
        if belongs != members.split(',').any(|name| name == user) {
            *members = names;
        }
    }
}

fn free(mut wanted: impl Iterator<Item = u32>, tables: &[&Table]) -> u32 {
    let taken: Vec<u32> = tables.iter().flat_map(|table| table.ids()).collect();
    wanted.find(|id| !taken.contains(id)).unwrap_or(PEOPLE.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::tests::example;

    fn debian() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/bash\n".into(),
            shadow: "root:*:20000:0:99999:7:::\n".into(),
            group: "root:x:0:\nsudo:x:27:\naudio:x:29:somebody\n".into(),
            gshadow: "root:*::\nsudo:*::\naudio:*::somebody\n".into(),
        }
    }

    #[test]
    fn users_are_made_with_groups_and_password() {
        let mut files = debian();
        let made = files.apply(&example().users, 20500);
        assert_eq!((made[0].uid, made[0].gid, made[1].uid), (1000, 1000, 1001));
        assert_eq!(made[0].home, "/home/audio-user");
        assert!(
            files.passwd.contains("audio-user:x:1000:1000:archibald:/home/audio-user:/bin/bash")
        );
        assert!(files.shadow.contains("audio-user:$6$salt$hash:20500:0:99999:7:::\n"));
        assert!(files.shadow.contains("second:*:20500:"));
        assert!(files.group.contains("audio:x:29:somebody,audio-user,second\n"));
        assert!(files.group.contains("pipewire:x:999:audio-user\n"), "{}", files.group);
        assert!(files.group.contains("audio-user:x:1000:\n"));
        assert!(files.gshadow.contains("audio:*::somebody,audio-user,second\n"));
        assert!(files.gshadow.contains("pipewire:!::audio-user\n"));
    }

    #[test]
    fn a_second_boot_changes_nothing() {
        let mut files = debian();
        let users = example().users;
        let first = files.apply(&users, 20500);
        let before = files.clone();
        assert_eq!(files.apply(&users, 20501), first);
        assert_eq!(files, before);
    }

    #[test]
    fn changed_settings_change_password_and_groups() {
        let mut files = debian();
        let mut users = example().users;
        files.apply(&users, 20500);
        users[0].password_hash = None;
        users[0].groups = vec!["audio".into()];
        files.apply(&users, 20600);
        assert!(files.shadow.contains("audio-user:*:20600:"));
        assert!(files.group.contains("sudo:x:27:\n"));
    }

    #[test]
    fn who_is_no_longer_in_the_settings_can_no_longer_log_in() {
        let mut files = debian();
        let mut users = example().users;
        files.apply(&users, 20500);
        files.passwd.push_str("guest:x:1500:1500:made by hand:/home/guest:/bin/sh\n");
        files.shadow.push_str("guest:$6$kept:20500:0:99999:7:::\n");
        users.remove(0);
        files.apply(&users, 20600);
        assert!(files.shadow.contains("audio-user:*:20600:"));
        assert!(files.group.contains("sudo:x:27:\n"));
        assert!(files.shadow.contains("guest:$6$kept:"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_lose_other_lines(text in "([a-z]{1,3}(:[a-z0-9]{0,3}){0,8}\n){0,6}") {
            let mut files = Accounts {
                passwd: text.clone(), shadow: text.clone(), group: text.clone(), gshadow: text.clone(),
            };
            files.apply(&example().users, 1);
            prop_assert!(files.passwd.lines().count() >= text.lines().count());
        }
    }
}
