package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/tendril-cni/tendril/webhook/certs"
)

// Secret keeps the certificate's state in a Secret. It implements certs.Store.
type Secret struct {
	client corev1client.SecretInterface
	name   string
}

var _ certs.Store = (*Secret)(nil)

// NewSecret returns the Secret of that name in the namespace of client.
func NewSecret(client corev1client.SecretInterface, name string) *Secret {
	return &Secret{client: client, name: name}
}

// Load implements certs.Store. A Secret that does not exist has no data and no
// version.
func (s *Secret) Load(ctx context.Context) (data map[string][]byte, version string, err error) {
	secret, err := s.client.Get(ctx, s.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("get secret %s: %w", s.name, err)
	}
	return secret.Data, secret.ResourceVersion, nil
}

// Save implements certs.Store. A Secret that did not exist is created.
func (s *Secret) Save(ctx context.Context, data map[string][]byte, version string) error {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: s.name, ResourceVersion: version}, Data: data}
	var err error
	if version == "" {
		_, err = s.client.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		err = s.update(ctx, secret)
	}
	switch {
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err):
		return fmt.Errorf("write secret %s: %w", s.name, certs.ErrConflict)
	case err != nil:
		return fmt.Errorf("write secret %s: %w", s.name, err)
	}
	return nil
}

// update changes the data and leaves the rest, which the manifest owns.
func (s *Secret) update(ctx context.Context, want *corev1.Secret) error {
	have, err := s.client.Get(ctx, s.name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	have.Data, have.ResourceVersion = want.Data, want.ResourceVersion
	_, err = s.client.Update(ctx, have, metav1.UpdateOptions{})
	return err
}
