// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

interface IToken {
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// What a probe sees of Permit2: its nonce bitmap, and transfers that spend a nonce. Anyone may spend; tests only.
contract TestPermit2 {
    mapping(address => mapping(uint256 => uint256)) public nonceBitmap;

    function spend(address owner, uint256 nonce, address token, address to, uint256 value) external {
        invalidate(owner, nonce);
        if (value > 0) IToken(token).transferFrom(owner, to, value);
    }

    function invalidate(address owner, uint256 nonce) public {
        uint256 bit = 1 << (nonce & 255);
        require(nonceBitmap[owner][nonce >> 8] & bit == 0, "InvalidNonce()");
        nonceBitmap[owner][nonce >> 8] |= bit;
    }
}
