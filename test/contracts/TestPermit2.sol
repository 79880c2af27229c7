// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

interface IToken {
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

interface IContractWallet {
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4);
}

struct TokenPermissions {
    address token;
    uint256 amount;
}

struct PermitTransferFrom {
    TokenPermissions permitted;
    uint256 nonce;
    uint256 deadline;
}

struct TransferDetails {
    address to;
    uint256 requestedAmount;
}

/// What payments use of Permit2, with its interface and its signatures: transfers of one token by signature, the
/// bitmap of the nonces, and their cancellation. For tests only.
contract TestPermit2 {
    mapping(address => mapping(uint256 => uint256)) public nonceBitmap;

    event UnorderedNonceInvalidation(address indexed owner, uint256 word, uint256 mask);

    bytes32 private constant DOMAIN = keccak256("EIP712Domain(string name,uint256 chainId,address verifyingContract)");
    bytes32 private constant PERMISSIONS = keccak256("TokenPermissions(address token,uint256 amount)");
    bytes32 private constant PERMIT = keccak256(
        "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)TokenPermissions(address token,uint256 amount)"
    );
    string private constant WITNESS_STUB =
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,";

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN, keccak256("Permit2"), block.chainid, address(this)));
    }

    function permitTransferFrom(
        PermitTransferFrom calldata permit,
        TransferDetails calldata details,
        address owner,
        bytes calldata signature
    ) external {
        spend(permit, details, owner, keccak256(fields(PERMIT, permit)), signature);
    }

    function permitWitnessTransferFrom(
        PermitTransferFrom calldata permit,
        TransferDetails calldata details,
        address owner,
        bytes32 witness,
        string calldata witnessTypeString,
        bytes calldata signature
    ) external {
        bytes32 typeHash = keccak256(abi.encodePacked(WITNESS_STUB, witnessTypeString));
        bytes32 structHash = keccak256(abi.encodePacked(fields(typeHash, permit), witness));
        spend(permit, details, owner, structHash, signature);
    }

    /// Cancels nonces of the caller; those that are spent stay so.
    function invalidateUnorderedNonces(uint256 word, uint256 mask) external {
        nonceBitmap[msg.sender][word] |= mask;
        emit UnorderedNonceInvalidation(msg.sender, word, mask);
    }

    function spend(
        PermitTransferFrom calldata permit,
        TransferDetails calldata details,
        address owner,
        bytes32 structHash,
        bytes calldata signature
    ) private {
        require(block.timestamp <= permit.deadline, "SignatureExpired()");
        require(details.requestedAmount <= permit.permitted.amount, "InvalidAmount()");
        uint256 bit = 1 << (permit.nonce & 255);
        require(nonceBitmap[owner][permit.nonce >> 8] & bit == 0, "InvalidNonce()");
        nonceBitmap[owner][permit.nonce >> 8] |= bit;
        requireSigner(owner, keccak256(abi.encodePacked("\x19\x01", DOMAIN_SEPARATOR(), structHash)), signature);
        IToken(permit.permitted.token).transferFrom(owner, details.to, details.requestedAmount);
    }

    function fields(bytes32 typeHash, PermitTransferFrom calldata permit) private view returns (bytes memory) {
        bytes32 permitted = keccak256(abi.encode(PERMISSIONS, permit.permitted.token, permit.permitted.amount));
        return abi.encode(typeHash, permitted, msg.sender, permit.nonce, permit.deadline);
    }

    function requireSigner(address signer, bytes32 digest, bytes calldata signature) private view {
        if (signer.code.length > 0) {
            require(IContractWallet(signer).isValidSignature(digest, signature) == 0x1626ba7e, "InvalidContractSignature()");
        } else {
            bytes32 r = bytes32(signature[0:32]);
            bytes32 s = bytes32(signature[32:64]);
            require(ecrecover(digest, uint8(signature[64]), r, s) == signer && signer != address(0), "InvalidSigner()");
        }
    }
}
