// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

import {PermitTransferFrom, TestPermit2, TransferDetails} from "./TestPermit2.sol";

/// The spender that buyers name in `exact` payments by Permit2, with the interface of x402's. For tests only.
contract TestPermit2Proxy {
    TestPermit2 public constant PERMIT2 = TestPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    struct Witness {
        address to;
        uint256 validAfter;
    }

    event Settled();

    function settle(
        PermitTransferFrom calldata permit,
        address owner,
        Witness calldata witness,
        bytes calldata signature
    ) external {
        require(block.timestamp >= witness.validAfter, "PaymentTooEarly()");
        PERMIT2.permitWitnessTransferFrom(
            permit,
            TransferDetails(witness.to, permit.permitted.amount),
            owner,
            keccak256(abi.encode(keccak256("Witness(address to,uint256 validAfter)"), witness.to, witness.validAfter)),
            "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)",
            signature
        );
        emit Settled();
    }
}
