"""The treasury's key: where it lies, and what it may be used for."""

from raymart_billing.solana.signing.keychain import KeychainSigner
from raymart_billing.solana.signing.keypair_file import KeypairFileSigner
from raymart_billing.solana.signing.policy import Books, Policy, PolicySigner
from raymart_billing.solana.signing.signer import Signer

__all__ = ["Books", "KeychainSigner", "KeypairFileSigner", "Policy", "PolicySigner", "Signer"]
