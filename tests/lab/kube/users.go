package kube

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"
)

// The users that every API has, by the names that [API.Kubeconfig] takes. The others are the kubelets of
// [Options.Nodes], each under its node's name and granted only what concerns that node.
const (
	Admin             = "admin" // may do everything
	ControllerManager = "controller-manager"
	Scheduler         = "scheduler"
)

// user is someone the API server recognises by a bearer token.
type user struct {
	name     string // ours, and of the kubeconfig file
	identity string // Kubernetes'
	group    string
	token    string
}

func users(nodes []string) []user {
	all := []user{
		{name: Admin, identity: "admin", group: "system:masters"},
		{name: ControllerManager, identity: "system:kube-controller-manager"},
		{name: Scheduler, identity: "system:kube-scheduler"},
	}
	for _, node := range nodes {
		all = append(all, user{name: node, identity: "system:node:" + node, group: "system:nodes"})
	}
	for i := range all {
		all[i].token = rand.Text()
	}
	return all
}

const tokensFile = "tokens.csv"

// writeUsers writes the API server's list of tokens and one kubeconfig for each user into dir.
func writeUsers(dir string, all []user, url string, ca []byte) error {
	var tokens strings.Builder
	for _, u := range all {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", u.token, u.identity, u.name, u.group)
		if err := clientcmd.WriteToFile(kubeconfig(u, url, ca), kubeconfigPath(dir, u.name)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, tokensFile), []byte(tokens.String()), 0o600)
}

func kubeconfigPath(dir, name string) string { return filepath.Join(dir, name+".kubeconfig") }

// kubeconfig holds everything in itself, so that the file can be copied into a guest.
func kubeconfig(u user, url string, ca []byte) clientapi.Config {
	const name = "lab"
	return clientapi.Config{
		Clusters:       map[string]*clientapi.Cluster{name: {Server: url, CertificateAuthorityData: ca}},
		AuthInfos:      map[string]*clientapi.AuthInfo{u.name: {Token: u.token}},
		Contexts:       map[string]*clientapi.Context{name: {Cluster: name, AuthInfo: u.name}},
		CurrentContext: name,
	}
}
