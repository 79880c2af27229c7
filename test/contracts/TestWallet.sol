// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// A contract wallet, or a facilitator's relayer: anyone may have it call, and every signature is its own. For tests only.
contract TestWallet {
    struct Call {
        address target;
        bytes callData;
    }

    function execute(Call[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; i++) {
            (bool success,) = calls[i].target.call(calls[i].callData);
            require(success, "TestWallet: call failed");
        }
    }

    /// Calls that may fail.
    function attempt(Call[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; i++) {
            (bool success,) = calls[i].target.call(calls[i].callData);
            success;
        }
    }

    function isValidSignature(bytes32, bytes calldata) external pure returns (bytes4) {
        return 0x1626ba7e;
    }
}
