"""The treasury's key: where it lies, and what it may be used for. `keychain` is imported by who has a key there."""

from raymart_billing.solana.signing.keypair_file import KeypairFileSigner
from raymart_billing.solana.signing.policy import Books, Policy, PolicySigner
from raymart_billing.solana.signing.signer import Signer

__all__ = ["Books", "KeypairFileSigner", "Policy", "PolicySigner", "Signer"]
