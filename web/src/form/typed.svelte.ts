/** What is being typed: stays as it is while the cursor is in the input, whatever number or list it means. */
export class Typed {
  private text = $state<string | null>(null)

  constructor(
    private readonly shown: () => string,
    private readonly commit: (text: string) => void,
  ) {}

  get value(): string {
    return this.text ?? this.shown()
  }

  input = (event: Event) => {
    this.text = (event.currentTarget as HTMLInputElement).value
    this.commit(this.text)
  }

  blur = () => (this.text = null)
}
