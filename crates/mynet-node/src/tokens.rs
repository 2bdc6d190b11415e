//! Invitations and API keys.
//!
//! An API key is `mynt_<8 hex digits of its id>_<64 hex digits>`; only SHA-256 of the whole is kept, which is enough for a
//! random secret of 256 bits. The prefix lets secret scanners find leaked keys.

use std::sync::Arc;

use mynet_store::meta::Token;
use mynet_types::{BoundedVec, GenesisFile, Invite, Signed};
use sha2::{Digest, Sha256};

use crate::{
    compose::random,
    driver::wall_clock,
    handle::{InviteOptions, NodeError, Principal, TokenOptions},
    shell::Shell,
    ticket::Ticket,
    view::{InviteView, Scope, TokenView},
};

/// Starts every API key.
const PREFIX: &str = "mynt_";
/// Longest name of a key.
const NAME_BYTES_MAX: usize = 64;

impl Shell {
    /// Makes an invitation.
    pub(crate) async fn invite(self: &Arc<Self>, options: InviteOptions) -> Result<InviteView, NodeError> {
        let chain = self.members.chain();
        if chain.newest().seat_of(&self.me()).is_none() {
            return Err(NodeError::Forbidden(
                "this node is no validator and can admit nobody; ask one that is".to_owned(),
            ));
        }
        let own = self.members.admission(&self.me());
        if options.trusted && !own.is_some_and(|own| own.body.trusted) {
            return Err(NodeError::Forbidden("this node is not trusted itself and cannot grant trust".to_owned()));
        }
        let expires_at = wall_clock().after(options.expires);
        let invite = Invite {
            id: random(),
            inviter: self.me(),
            roles: options.roles,
            trusted: options.trusted,
            uses: options.uses,
            expires_at,
        };
        let invite = Signed::new(&self.network, invite, self.keys.node());
        self.meta.put_invite(&invite).await.map_err(NodeError::storage)?;
        let addrs = self.members.record(&self.me()).map(|record| record.body.addrs.clone()).unwrap_or_default();
        let ticket =
            Ticket { genesis: GenesisFile::of(&chain), invite, addrs: BoundedVec::truncated(addrs.into_vec()) };
        Ok(InviteView {
            ticket: ticket.encode(),
            roles: options.roles.words().map(str::to_owned).collect(),
            expires: expires_at,
            uses: options.uses,
        })
    }

    /// Makes an API key.
    pub(crate) async fn create_token(&self, options: TokenOptions) -> Result<TokenView, NodeError> {
        if options.name.is_empty() || options.name.len() > NAME_BYTES_MAX {
            let why = format!("a name has 1 to {NAME_BYTES_MAX} bytes");
            return Err(NodeError::Invalid { field: "name", why });
        }
        let id: [u8; 16] = random();
        let secret: [u8; 32] = random();
        let text = format!("{PREFIX}{}_{}", hex::encode(id.split_at(4).0), hex::encode(secret));
        let token = Token {
            id,
            name: options.name,
            scope: scope_word(options.scope).to_owned(),
            created_at: wall_clock(),
            expires_at: options.expires,
            last_used_at: None,
            revoked_at: None,
        };
        self.meta.put_token(&token, &hash(&text)).await.map_err(NodeError::storage)?;
        Ok(TokenView { token: Some(text), ..view(&token)? })
    }

    /// API keys that are not revoked.
    pub(crate) async fn tokens(&self) -> Result<Vec<TokenView>, NodeError> {
        let tokens = self.meta.tokens().await.map_err(NodeError::storage)?;
        tokens.iter().filter(|token| token.revoked_at.is_none()).map(view).collect()
    }

    /// Revokes an API key.
    pub(crate) async fn revoke_token(&self, id: String) -> Result<(), NodeError> {
        let unknown = || NodeError::NotFound(format!("API key {id}"));
        let mut bytes = [0; 16];
        hex::decode_to_slice(&id, &mut bytes).map_err(|_not_hex| unknown())?;
        let revoked = self.meta.revoke_token(&bytes, wall_clock()).await.map_err(NodeError::storage)?;
        if revoked { Ok(()) } else { Err(unknown()) }
    }

    /// Who bears a key. Found by the hash of the whole, so no comparison leaks how much of it was right.
    pub(crate) async fn authenticate(&self, text: &str) -> Result<Option<Principal>, NodeError> {
        if !text.starts_with(PREFIX) {
            return Ok(None);
        }
        let found = self.meta.token(&hash(text), wall_clock()).await.map_err(NodeError::storage)?;
        found.map(|token| Ok(Principal { token_id: hex::encode(token.id), scope: scope(&token)? })).transpose()
    }
}

/// What is kept of a key.
fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// The word in the column.
fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Read => "read",
        Scope::Write => "write",
        Scope::Admin => "admin",
    }
}

/// The scope of a row.
fn scope(token: &Token) -> Result<Scope, NodeError> {
    [Scope::Read, Scope::Write, Scope::Admin]
        .into_iter()
        .find(|scope| scope_word(*scope) == token.scope)
        .ok_or_else(|| NodeError::storage(UnknownScope(token.scope.clone())))
}

/// A row as it is listed.
fn view(token: &Token) -> Result<TokenView, NodeError> {
    Ok(TokenView {
        id: hex::encode(token.id),
        name: token.name.clone(),
        scope: scope(token)?,
        created_at: token.created_at,
        expires: token.expires_at,
        token: None,
    })
}

/// A row was written by a newer program.
#[derive(Debug, thiserror::Error)]
#[error("an API key has the unknown scope '{0}'")]
struct UnknownScope(String);
