//! Notes of how options are spelled, each kept once however many launches have it: nearly all are the same for every server
//! of a build.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use llama_warden_events::OptionNote;

/// The notes that some event or snapshot still holds.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    entries: Mutex<Vec<Weak<OptionNote>>>,
}

impl Interner {
    /// The same notes, those that are held already in place of their equals.
    pub(crate) fn intern(&self, notes: Vec<OptionNote>) -> Arc<[Arc<OptionNote>]> {
        // A poisoned lock only says that a thread died while it compared.
        let mut held = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|note| note.strong_count() > 0);
        let intern = |note: OptionNote| {
            let equal = held.iter().filter_map(Weak::upgrade).find(|known| **known == note);
            equal.unwrap_or_else(|| {
                let note = Arc::new(note);
                held.push(Arc::downgrade(&note));
                note
            })
        };
        notes.into_iter().map(intern).collect()
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::{OptionTreatment, Texts};

    use super::*;

    fn note(option: &str) -> OptionNote {
        OptionNote {
            option: option.into(),
            treatment: OptionTreatment::Dropped,
            spelled: Texts::default(),
            because: "this build does not list it".into(),
            dialect: None,
        }
    }

    #[test]
    fn what_is_equal_is_kept_once_and_only_while_it_is_held() {
        let interner = Interner::default();
        let first = interner.intern(vec![note("mlock"), note("alias")]);
        let second = interner.intern(vec![note("alias"), note("jinja")]);
        assert!(Arc::ptr_eq(&first[1], &second[0]) && !Arc::ptr_eq(&first[0], &second[1]));
        assert_eq!(*second[1], note("jinja"));
        drop((first, second));
        interner.intern(Vec::new());
        assert!(interner.entries.lock().expect("whole").is_empty());
    }
}
