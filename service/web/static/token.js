// The token for servers that require one: asked for once, and kept until the tab is closed.

const KEY = "convd-token";

const find = (id) => document.getElementById(id);

let asking = null;

/** The token in use; empty for none. */
export const currentToken = () => sessionStorage.getItem(KEY) ?? "";

/** Wait until another token than the one that was refused is in use. */
export async function replaceToken(refused) {
  while (currentToken() === refused) {
    asking ??= ask(refused).finally(() => { asking = null; });
    await asking;
  }
}

async function ask(refused) {
  const dialog = find("token-dialog");
  const field = find("token");
  find("token-refused").hidden = !refused;
  field.value = "";
  dialog.showModal();
  await new Promise((resolve) => {
    const submit = (event) => {
      event.preventDefault();
      const token = field.value.trim();
      if (!token) return;
      sessionStorage.setItem(KEY, token);
      find("token-form").removeEventListener("submit", submit);
      resolve();
    };
    find("token-form").addEventListener("submit", submit);
    // Without a token there is nothing to show.
    dialog.oncancel = (event) => event.preventDefault();
  });
  dialog.close();
}
