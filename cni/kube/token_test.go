package kube_test

import (
	"os"
	"path/filepath"
	"testing"

	authentication "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/tendril-cni/tendril/cni/kube"
)

// The kubelet writes a new token over the old one long before that ends; here the
// old one ends at once, as when the cluster's signing key was changed. Watches and
// writes go on with the new one.
func TestTokenIsRotated(t *testing.T) {
	w := newWorld(t)
	w.account("tendrild")
	path := filepath.Join(t.TempDir(), "token")
	first := w.token("tendrild", "first", path)
	w.config = &rest.Config{Host: w.config.Host, TLSClientConfig: w.config.TLSClientConfig, BearerTokenFile: path}
	c := w.cache(kube.Options{})
	r, _ := w.reporter(c, nil)
	before := w.create("before", node, nil)
	if _, err := c.Pod(w.within(patience), w.namespace, "before", ""); err != nil {
		t.Fatal(err)
	}
	r.Publish(ref(before), entry("cbr0"))
	w.eventually("the status under the first token", func() bool { return w.status("before") != "" })

	w.token("tendrild", "second", path)
	if err := w.client.CoreV1().Secrets(w.namespace).Delete(t.Context(), "first", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the end of the first token", func() bool { return w.refuses(first) })
	after := w.create("after", node, nil)
	if _, err := c.Pod(w.within(patience), w.namespace, "after", string(after.UID)); err != nil {
		t.Fatal(err)
	}
	r.Publish(ref(after), entry("cbr0"))
	w.eventually("the status under the second token", func() bool { return w.status("after") != "" })
}

// account makes a service account that may do everything.
func (w *world) account(name string) {
	w.t.Helper()
	_, err := w.client.CoreV1().ServiceAccounts(w.namespace).Create(w.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err == nil {
		_, err = w.client.RbacV1().ClusterRoleBindings().Create(w.t.Context(), &rbac.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
			RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbac.Subject{{Kind: rbac.ServiceAccountKind, Namespace: w.namespace, Name: name}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// refuses says whether the API server does not know who comes with the token.
func (w *world) refuses(token string) bool {
	w.t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: w.config.Host, TLSClientConfig: w.config.TLSClientConfig, BearerToken: token})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = client.CoreV1().Pods(w.namespace).List(w.t.Context(), metav1.ListOptions{})
	return apierrors.IsUnauthorized(err)
}

// token writes a token that is good for as long as a Secret of that name is there,
// and returns it.
func (w *world) token(account, secret, path string) string {
	w.t.Helper()
	s, err := w.client.CoreV1().Secrets(w.namespace).Create(w.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret}}, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := w.client.CoreV1().ServiceAccounts(w.namespace).CreateToken(w.t.Context(), account, &authentication.TokenRequest{
		Spec: authentication.TokenRequestSpec{BoundObjectRef: &authentication.BoundObjectReference{Kind: "Secret", APIVersion: "v1", Name: secret, UID: s.UID}},
	}, metav1.CreateOptions{})
	if err == nil {
		err = os.WriteFile(path, []byte(got.Status.Token), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return got.Status.Token
}
