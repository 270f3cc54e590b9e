// Package podresources asks the kubelet which devices a pod holds, over the pod
// resources API v1 on its local socket.
//
// It owns one connection and the choice between the API's Get, which is one
// pod's answer, and List, which is everybody's and always there. It knows
// nothing of pools and keeps no answers: the kubelet is the truth.
//
// Invariants:
//
//  1. An answer is the kubelet's own at the time of the call.
//  2. A missing socket, a kubelet that refuses and a pod that the kubelet does
//     not know are three different errors; none of them is an empty answer.
//
// All methods of Client may be called concurrently.
package podresources
