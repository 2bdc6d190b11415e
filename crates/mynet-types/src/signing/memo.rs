//! Remembers what signatures were found to be, for a process that plays many nodes.
//!
//! In a simulated network every node checks the same votes, certificates and receipts, and most of the time goes into finding
//! out the same again. Whether a signature verifies depends on its key, its text and its bytes alone, so the first answer to
//! exactly these is the answer, yes or no. Nothing is remembered before [`begin`] was called, by this thread.
//!
//! Only builds with the feature `memo`, which the simulator alone asks for, and with debug assertions have this: no release of the
//! daemon does, whatever is built beside it.

use std::{cell::RefCell, collections::HashMap};

use super::{Signature, SignatureError};

/// Finds out whether a key signed a text.
type Check = fn(&[u8; 32], &[u8], &Signature) -> Result<(), SignatureError>;
/// Key, signature and text, to the byte.
type Question = ([u8; 32], [u8; 64], Vec<u8>);

thread_local! {
    static VERDICTS: RefCell<Option<HashMap<Question, Result<(), SignatureError>>>> = const { RefCell::new(None) };
}

/// From now on this thread remembers, beginning with nothing.
pub fn begin() {
    VERDICTS.set(Some(HashMap::new()));
}

/// What was found out before about exactly these bytes, or what `check` finds out now.
pub(super) fn verdict(
    key: &[u8; 32],
    text: Vec<u8>,
    signature: &Signature,
    check: Check,
) -> Result<(), SignatureError> {
    VERDICTS.with_borrow_mut(|verdicts| match verdicts {
        None => check(key, &text, signature),
        Some(verdicts) => {
            let question = (*key, signature.0, text);
            if let Some(verdict) = verdicts.get(&question) {
                return *verdict;
            }
            let verdict = check(key, &question.2, signature);
            verdicts.insert(question, verdict);
            verdict
        }
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::{Signature, SignatureError, VERDICTS, begin, verdict};
    use crate::signing::verify_text;

    fn remembered() -> Option<usize> {
        VERDICTS.with_borrow(|verdicts| verdicts.as_ref().map(std::collections::HashMap::len))
    }

    #[test]
    fn exactly_the_same_bytes_have_the_same_answer_and_others_their_own() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = key.verifying_key().to_bytes();
        let signature = Signature(key.sign(b"text").to_bytes());
        let ask = |key: [u8; 32], text: &[u8], signature| verdict(&key, text.to_vec(), &signature, verify_text);
        assert_eq!((ask(public, b"text", signature), remembered()), (Ok(()), None), "nobody asked to remember");
        begin();
        for _twice in 0..2 {
            assert_eq!(ask(public, b"text", signature), Ok(()));
            assert_eq!(ask(public, b"texd", signature), Err(SignatureError::Signature));
            let mut changed = signature;
            changed.0[40] ^= 1;
            assert_eq!(ask(public, b"text", changed), Err(SignatureError::Signature));
            let other = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
            assert_eq!(ask(other, b"text", signature), Err(SignatureError::Signature));
            assert_eq!(ask([2; 32], b"text", signature), Err(SignatureError::Key));
        }
        assert_eq!(remembered(), Some(5));
        let unasked = |_: &[u8; 32], _: &[u8], _: &Signature| Err(SignatureError::Key);
        assert_eq!(verdict(&public, b"text".to_vec(), &signature, unasked), Ok(()), "it is not checked again");
        begin();
        assert_eq!(remembered(), Some(0));
    }
}
